//! What captures prove about a balanced service.

mod types;

pub use types::{
    Evidence, FileRead, Flow, Known, Machine, MatrixRow, Method, Outcome, Proof, Role,
    ServiceProof, Share, Verdict, VerdictId,
};
