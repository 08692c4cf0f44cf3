//! Images: recipes built from Debian packages, OCI image layouts, the layer applier, the store.
//! Knows nothing of labs.
