//! Capture files: our readers and our writer against Wireshark's own tools (tshark, editcap,
//! capinfos, mergecap). Needs no root.

mod build;
mod formats;
mod tshark;
