"""The commands of runtime and evidence, one a file: click's declaration of each, and nothing heavy."""
