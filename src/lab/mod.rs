//! The validated model. A value of these types cannot be invalid: the constructors are private to
//! this room and [`load`] and [`check`] are the only ways from a file to a [`Lab`].

mod checker;
mod model;
mod names;
pub mod validate;

pub use checker::Checker;
pub use model::{
    Accept, Capture, CaptureScope, CaptureSettings, Check, CheckKind, EngineChoice, EnvFile,
    HostSide, Interface, Lab, Limits, Method, Network, Node, OnFail, Persistence, Protocol, Ready,
    ReadyKind, Restart, Rotate, Scheduler, SchedulerFlag, Seccomp, Server, Service, Tmpfs, Volume,
};
pub use names::{IfName, LabName, Mac, MacError, NameError, NetworkName, NodeName, ServiceName};
pub use validate::{check, load, with_servers};
