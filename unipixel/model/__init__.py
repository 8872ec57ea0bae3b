"""The network: tensors in, tensors out. Nothing in here knows a file, a string or a widget."""
