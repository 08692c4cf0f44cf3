//! Which engine a director gets.

use super::{Engine, NftEngine, ServiceSpec, Unsupported};

/// What the lab file asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Kernel IPVS where the kernel has it, else nft.
    Auto,
    /// Kernel IPVS or an error.
    Ipvs,
    /// nft.
    Nft,
}

/// Why no engine will do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// IPVS is asked for on a kernel without it.
    #[error(
        "engine = \"ipvs\" is asked for, but this kernel has no IPVS (CONFIG_IP_VS, module ip_vs): \
         load it with `modprobe ip_vs` (on Ubuntu the module is in package \
         linux-modules-extra-$(uname -r)), or take engine = \"auto\" or \"nft\""
    )]
    NoIpvs,
    /// IPVS is asked for, the kernel has it, and nslab does not speak it yet.
    #[error(
        "engine = \"ipvs\" is asked for and this kernel has IPVS, but this version of nslab cannot \
         program it yet: take engine = \"auto\" or \"nft\""
    )]
    IpvsNotBuilt,
    /// The engine cannot do what a service asks for.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}

/// The engine for a director's services. `kernel_has_ipvs` is what
/// [`crate::kernel::ipvs::probe`] found in the director's namespace.
pub fn choose(
    choice: Choice,
    kernel_has_ipvs: bool,
    services: &[ServiceSpec],
) -> Result<Box<dyn Engine>, Error> {
    let engine: Box<dyn Engine> = match (choice, kernel_has_ipvs) {
        (Choice::Ipvs, false) => return Err(Error::NoIpvs),
        // The place of the ipvs engine, here and in `Auto` with a kernel that has it.
        (Choice::Ipvs, true) => return Err(Error::IpvsNotBuilt),
        (Choice::Auto | Choice::Nft, _) => Box::new(NftEngine::default()),
    };
    for service in services {
        engine.supports(service)?;
    }
    Ok(engine)
}
