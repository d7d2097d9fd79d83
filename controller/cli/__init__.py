"""The command line: arguments in, exit code out. It holds no rules about sessions."""
