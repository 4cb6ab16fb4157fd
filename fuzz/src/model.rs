//! A small valid BERT directory of which some file is replaced.

use std::path::PathBuf;

use regard_lens::{AttentionObserver, LayerAttention, LensError, Model};

const FILES: [(&str, &[u8]); 5] = [
    ("config.json", include_bytes!("../seeds/config.json")),
    ("tokenizer.json", include_bytes!("../seeds/tokenizer.json")),
    ("model.safetensors", include_bytes!("../seeds/model.safetensors")),
    ("model-00001-of-00002.safetensors", include_bytes!("../seeds/sharded/model-00001-of-00002.safetensors")),
    ("model-00002-of-00002.safetensors", include_bytes!("../seeds/sharded/model-00002-of-00002.safetensors")),
];

struct Nobody;

impl AttentionObserver for Nobody {
    fn layer(&mut self, _: &LayerAttention<'_>) -> Result<(), LensError> {
        Ok(())
    }
}

/// Loads the directory with `data` in place of `file`, and runs what was loaded. Errors are fine; panics are not.
pub fn load_with(file: &str, data: &[u8]) {
    let dir = PathBuf::from(std::env::temp_dir()).join(format!("regard-fuzz-{}-{file}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    for (name, bytes) in FILES {
        // With an index there must be no single file.
        let absent = file.ends_with("index.json") && name == "model.safetensors";
        let path = dir.join(name);
        if absent {
            let _ = std::fs::remove_file(&path);
        } else if name != file && !path.exists() {
            std::fs::write(&path, bytes).expect("room for a seed");
        }
    }
    std::fs::write(dir.join(file), data).expect("room for the input");
    if let Ok(model) = Model::load(&dir)
        && let Ok(text) = model.tokenize("the cat sat unable")
    {
        let _ = model.run(&text, &mut Nobody);
    }
}

/// Lets panics that the library catches (and turns into errors) be caught: only those that escape end the run.
pub fn catchable_panics() {
    std::panic::set_hook(Box::new(|_| ()));
}
