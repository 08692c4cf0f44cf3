//! How the program is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    // At fixed addresses: the dynamic linker need not write 29,000 pointers into 120 pages before the
    // first instruction, which a quarter of the time of `nslab exec` was. The stack, the heap and the
    // libraries stay where chance puts them.
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-no-pie");
    }
}
