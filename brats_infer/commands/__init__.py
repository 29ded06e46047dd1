"""One module for each command or group of commands: options in, one function call, exit code out."""
