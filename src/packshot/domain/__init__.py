"""What exists in Packshot and what is allowed. Knows the standard library only: no files, no models, no database."""
