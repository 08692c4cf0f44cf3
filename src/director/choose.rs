//! Which engine a director gets.

use super::{Engine, IpvsEngine, NftEngine, ServiceSpec, Unsupported};

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

/// How a kernel without IPVS comes by it.
const LOAD: &str = "load it with `modprobe ip_vs` (on Ubuntu the module is in package \
                    linux-modules-extra-$(uname -r))";

/// Why no engine will do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// IPVS is asked for on a kernel without it.
    #[error(
        "engine = \"ipvs\" is asked for, but this kernel has no IPVS (CONFIG_IP_VS, module ip_vs): \
         {LOAD}, or take engine = \"auto\" or \"nft\""
    )]
    NoIpvs,
    /// The kernel has no IPVS, and what is asked for is beyond nft.
    #[error(
        "this kernel has no IPVS (CONFIG_IP_VS, module ip_vs), which service {service:?} needs: \
         {LOAD}. Engine \"nft\" cannot stand in: {nft}"
    )]
    Neither {
        /// The service's name.
        service: String,
        /// Why nft will not do.
        nft: Unsupported,
    },
    /// nft is asked for and cannot do it.
    #[error("{0}: take engine = \"auto\" or \"ipvs\"")]
    NotNft(Unsupported),
    /// No engine can do what a service asks for.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
}

/// The engine for a director's services. `kernel_has_ipvs` is what
/// [`crate::kernel::ipvs::probe`] found.
pub fn choose(
    choice: Choice,
    kernel_has_ipvs: bool,
    services: &[ServiceSpec],
) -> Result<Box<dyn Engine>, Error> {
    let engine: Box<dyn Engine> = match (choice, kernel_has_ipvs) {
        (Choice::Ipvs, false) => return Err(Error::NoIpvs),
        (Choice::Ipvs | Choice::Auto, true) => Box::new(IpvsEngine),
        (Choice::Auto, false) | (Choice::Nft, _) => Box::new(NftEngine::default()),
    };
    for service in services {
        engine.supports(service).map_err(|e| match choice {
            Choice::Nft => Error::NotNft(e),
            Choice::Auto if !kernel_has_ipvs => Error::Neither {
                service: service.name.clone(),
                nft: e,
            },
            Choice::Auto | Choice::Ipvs => Error::Unsupported(e),
        })?;
    }
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::director::nft::tests::service;
    use crate::lab::Method;

    fn name(choice: Choice, kernel_has_ipvs: bool, service: &ServiceSpec) -> &'static str {
        let engine = choose(choice, kernel_has_ipvs, std::slice::from_ref(service));
        engine.unwrap().name()
    }

    fn refusal(choice: Choice, kernel_has_ipvs: bool, service: &ServiceSpec) -> String {
        let engine = choose(choice, kernel_has_ipvs, std::slice::from_ref(service));
        engine.err().unwrap().to_string()
    }

    #[test]
    fn ipvs_where_the_kernel_has_it() {
        let service = service("rr", &[1, 1]);
        assert_eq!(name(Choice::Auto, true, &service), "ipvs");
        assert_eq!(name(Choice::Auto, false, &service), "nft");
        assert_eq!(name(Choice::Ipvs, true, &service), "ipvs");
        assert_eq!(name(Choice::Nft, true, &service), "nft");
        assert_eq!(name(Choice::Nft, false, &service), "nft");
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_load() {
        assert_eq!(
            refusal(Choice::Ipvs, false, &service("rr", &[1, 1])),
            "engine = \"ipvs\" is asked for, but this kernel has no IPVS (CONFIG_IP_VS, module \
             ip_vs): load it with `modprobe ip_vs` (on Ubuntu the module is in package \
             linux-modules-extra-$(uname -r)), or take engine = \"auto\" or \"nft\""
        );
        let mut nat = service("wlc", &[1]);
        nat.method = Method::Nat;
        assert_eq!(name(Choice::Auto, true, &nat), "ipvs");
        assert_eq!(
            refusal(Choice::Auto, false, &nat),
            "this kernel has no IPVS (CONFIG_IP_VS, module ip_vs), which service \"thredds\" needs: \
             load it with `modprobe ip_vs` (on Ubuntu the module is in package \
             linux-modules-extra-$(uname -r)). Engine \"nft\" cannot stand in: service \"thredds\" asks \
             for method \"nat\", which engine \"nft\" does not have"
        );
        assert_eq!(
            refusal(Choice::Nft, true, &service("wlc", &[1])),
            "service \"thredds\" asks for scheduler \"wlc\", which engine \"nft\" does not have (it has \
             rr, wrr and sh): take engine = \"auto\" or \"ipvs\""
        );
    }
}
