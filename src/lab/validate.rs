//! From `RawLab` to [`Lab`](super::Lab), collecting every problem on the way.
