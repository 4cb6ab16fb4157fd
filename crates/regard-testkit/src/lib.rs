//! regard-testkit
