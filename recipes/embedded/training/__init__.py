"""What the training programs of the bundled base share: settings, the resumable run, and picture folders."""
