"""The bundled base model, judge and sample catalog: data, and where it lies."""
