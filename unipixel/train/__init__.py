"""Training: losses, stages and the run that makes the embedded nano checkpoint."""
