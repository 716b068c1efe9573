"""The commands of the pipeline, a module each; what they need beyond this package is imported when they run."""
