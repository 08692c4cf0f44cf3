//! nftables over netlink, without the nft binary: a ruleset as data, and its way into the kernel
//! in one atomic batch (include/uapi/linux/netfilter/nf_tables.h).

/// Placeholder until the nft room is merged.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Ruleset;
/// Placeholder.
pub fn apply(_: &Ruleset) -> Result<(), std::io::Error> {
    Ok(())
}
