//! From the file's text to a `RawLab` with spans, and the diagnostics that point at them.
