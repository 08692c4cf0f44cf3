//! Nodes in real namespaces, looked at from inside by `exec` and from outside. Needs root.

#[path = "node/harness.rs"]
mod harness;

#[path = "common/install.rs"]
mod install;

#[path = "node/rooms.rs"]
mod rooms;

#[path = "node/images.rs"]
mod images;

#[path = "node/life.rs"]
mod life;

#[path = "node/exec.rs"]
mod exec;

#[path = "node/speed.rs"]
mod speed;

#[path = "node/seccomp.rs"]
mod seccomp;

#[path = "node/runner.rs"]
mod runner;

#[path = "node/security.rs"]
mod security;
