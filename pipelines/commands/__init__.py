"""Train, export and use an image classifier.

Each module of this package is a command of `python main.py`, found because it exists; `pipelines/command_line.py` says
what it must have. `shared/` holds flags that several commands read.
"""
