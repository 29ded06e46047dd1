"""One module for each command, or few that belong together: options in, one function call, exit code out."""
