//! nftables over netlink, without the nft binary: a ruleset as data, and its way into the kernel
//! in one atomic batch (include/uapi/linux/netfilter/nf_tables.h).
