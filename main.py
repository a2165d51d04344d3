"""Train, export and use an image classifier: `python main.py --help` lists the commands.

A command is a file of `pipelines/commands/`: its flags, its help and its body. `pip install .` makes the same program
available as `kcnn`.
"""

import sys

from pipelines.command_line import main

if __name__ == "__main__":
    sys.exit(main())
