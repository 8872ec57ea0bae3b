"""Where training and test pictures come from: the drawn world and, later, data sets on disk."""
