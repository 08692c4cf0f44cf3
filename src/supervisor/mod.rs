//! The one long-lived process of a lab, its control socket and its journal.
