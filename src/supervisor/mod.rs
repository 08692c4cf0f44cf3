//! The one long-lived process of a lab: it carries the plan out, owns captures and node inits, and
//! answers on a control socket. `/run/nslab/<lab>/` holds its lock, state, journal, socket, logs and
//! the pins of the lab's namespaces.

mod answer;
mod apply;
mod bus;
mod client;
mod directors;
mod error;
mod event;
mod health;
mod holding;
mod joining;
mod journal;
mod launch;
mod limits;
mod logs;
mod merging;
mod nodes;
mod program;
mod protocol;
mod rates;
mod ready;
mod recording;
mod rundir;
mod serve;
mod servers;
mod shape;
mod starting;
mod stopping;
mod teardown;
mod worker;

pub use bus::{Record, history};
pub use client::{Client, Followed, find_lab, running_labs};
pub use error::Error;
pub use event::{CaptureStats, Event};
pub use holding::check_fresh;
pub use launch::{Launch, NodeImage, Owner, SUPERVISOR, up};
pub use logs::tail;
pub use program::argv;
pub use protocol::{
    Dead, Health, NewServer, NodeLimits, NodeStatus, Reply, Request, ServiceStatus, ServiceTable,
    Status,
};
pub use rundir::{RunDir, State};
pub use serve::main as supervise;
pub use teardown::down_without_supervisor;

/// What a call of this room gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;
