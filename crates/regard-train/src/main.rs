//! The command `regard-train`.

mod arguments;
mod figures;
mod watch;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use regard_train::TrainError;
use regard_train::corpus::Documents;
use regard_train::evaluate;
use regard_train::experiments::{self, Experiment, Settings};
use regard_train::fit::{self, Ending, Recipe};
use regard_train::sentences::training_text;
use regard_train::step;

use arguments::{Cli, Command, Evaluate, Fit};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Fit(options) => train(&options),
        Command::Evaluate(options) => evaluate_model(&options),
        Command::Experiment(options) => experiment(&options),
        Command::Step(options) => time_step(&options),
        Command::Sentences { count, seed } => print_sentences(count, seed),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("regard-train: error: {error}");
            ExitCode::from(if matches!(error, TrainError::Option { .. }) { 2 } else { 1 })
        }
    }
}

fn train(options: &Fit) -> Result<ExitCode, TrainError> {
    let (recipe, keeping) = options.recipe()?;
    let documents = Documents::read(&options.data)?;
    let stop = Arc::new(AtomicBool::new(false));
    let pressed = Arc::clone(&stop);
    // A second Ctrl-C ends the process at once; the last checkpoint stays.
    let handler = move || {
        if pressed.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("regard-train: warning: Ctrl-C will end the run without a checkpoint: {error}");
    }
    let mut watch = watch::choose(options.show, title(&recipe), recipe.steps);
    let ending = fit::fit(&documents, &recipe, &keeping, &stop, &mut *watch);
    // What follows is printed on the screen that was there before.
    drop(watch);
    match ending? {
        Ending::Finished => {
            println!("{}", keeping.out.display());
            eprintln!("look into it: regard view --model {} \"TEXT\"", keeping.out.display());
            Ok(ExitCode::SUCCESS)
        }
        Ending::Stopped { step } => {
            eprintln!("stopped after step {step}; the same command goes on from there");
            Ok(ExitCode::from(130))
        }
    }
}

/// A run in one line.
fn title(recipe: &Recipe) -> String {
    let model = &recipe.architecture;
    format!(
        "{:?}, {} layers × {} heads × {}, seed {}",
        recipe.objective, model.layers, model.heads, model.dim, recipe.seed
    )
}

fn evaluate_model(options: &Evaluate) -> Result<ExitCode, TrainError> {
    let report = evaluate::evaluate(&options.model, options.pairs)?;
    if options.name_head {
        evaluate::name_head(&options.model, &report.head)?;
    }
    let text = match options.json {
        true => serde_json::to_string(&report).expect("numbers are JSON") + "\n",
        false => figures::render(&report),
    };
    // A reader that has seen enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn experiment(options: &arguments::Experiment) -> Result<ExitCode, TrainError> {
    let experiment = Experiment::named(&options.name)?;
    let keep = options.out.clone().unwrap_or_else(std::env::temp_dir);
    let settings = Settings {
        quick: options.quick,
        seed: options.seed,
        keep,
        data: options.folders(),
        models: options.models.clone(),
    };
    let report = experiment.run(&settings, &mut |note| eprintln!("{}: {note}", experiment.name))?;
    if let Some(dir) = &options.out {
        experiments::write(&report, dir)?;
    }
    let text = match options.json {
        true => serde_json::to_string_pretty(&report).expect("a report is JSON") + "\n",
        false => report.text(),
    };
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn time_step(options: &arguments::Step) -> Result<ExitCode, TrainError> {
    let report = step::time(&options.sizes()?)?;
    let text = match options.json {
        true => serde_json::to_string_pretty(&report).expect("numbers are JSON") + "\n",
        false => figures::step(&report),
    };
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

fn print_sentences(count: u64, seed: u64) -> Result<ExitCode, TrainError> {
    use regard_train::random::{Purpose, rng};
    let mut stdout = std::io::stdout().lock();
    for index in 0..count {
        let text = training_text(&mut rng(seed, Purpose::Examples, 0, index));
        // A reader that has seen enough.
        if writeln!(stdout, "{}", text.line()).is_err() {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}
