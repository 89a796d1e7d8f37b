"""The code behind tools/ and the command ``dms``."""
