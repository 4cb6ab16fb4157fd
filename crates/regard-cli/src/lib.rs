//! regard-cli
