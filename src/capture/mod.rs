//! Capture: sniffers on interfaces in other network namespaces, and their files. Knows nothing of
//! labs' TOML.
