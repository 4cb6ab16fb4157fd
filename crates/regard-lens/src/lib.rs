//! regard-lens
