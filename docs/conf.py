project = 'dms_mm'
extensions = ['myst_parser']
html_theme = 'alabaster'
exclude_patterns = ['_build']
