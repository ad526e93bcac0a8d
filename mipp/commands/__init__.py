"""What the `mipp` command can do, one file a command.

A command's file has `configure(parser)`, its options, and `run(options)`, which does it and returns
the exit code. `table` names them all, by task, and is read without importing any; `parser` makes
the command line of it. `arguments` are options that several have. To add a command: a file here and
a row of `table.COMMANDS`.
"""
