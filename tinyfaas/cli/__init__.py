"""The command line. A command imports what it needs when it runs: starting is slow on a Pi."""
