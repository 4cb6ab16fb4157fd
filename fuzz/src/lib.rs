//! What the fuzz targets share: attention calls and model directories made from arbitrary bytes.

pub mod call;
pub mod model;
