//! The only room with effects on the kernel. It knows nothing of labs.

pub mod ipvs;
pub mod nft;
