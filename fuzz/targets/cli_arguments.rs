//! Arguments of the command, separated by zero bytes: parsed or refused, never a panic.
#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use clap::Parser;
use libfuzzer_sys::fuzz_target;

#[allow(dead_code, unreachable_pub, unused_imports)]
#[path = "../../crates/regard-cli/src/arguments/mod.rs"]
mod arguments;

fuzz_target!(|data: &[u8]| {
    let words = data.split(|&byte| byte == 0).map(OsStr::from_bytes);
    let result = arguments::Arguments::try_parse_from(std::iter::once(OsStr::new("regard")).chain(words));
    if let Err(error) = result {
        assert!(!error.render().to_string().is_empty());
    }
});
