"""Read the labels of several raters, measure how far they agree, and aggregate them to soft labels."""
