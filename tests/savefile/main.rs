//! Capture files: our readers and our writer against Wireshark's own tools (tshark, editcap,
//! capinfos, mergecap), and against files that are damaged or hostile. Needs no root.

mod build;
mod counting;
mod damage;
mod formats;
mod merging;
mod mutate;
mod property;
mod samples;
mod survive;
mod tshark;
