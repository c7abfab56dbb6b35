"""What in the documentation is made of what the program says and of committed rows: ``make docs``."""
