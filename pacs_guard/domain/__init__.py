"""Pure values and rules: no I/O, no clock, no database, no TensorFlow."""
