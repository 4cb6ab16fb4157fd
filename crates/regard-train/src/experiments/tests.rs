use super::network::{Mixer, Network, Positions, Sizes};
use super::recall::Recall;
use super::report::{Report, Table};
use super::rivals::{Plan, Runs, compare, fitted, steps_in_equal_time};
use super::treebank::{NEIGHBOURS, Treebank, looks};
use super::trial::Task;
use super::*;
use crate::chart::{Axis, Chart, Series};
use crate::sentences::templates::Part;

use burn::nn::LstmConfig;
use burn::nn::gru::GruConfig;
use burn::tensor::{Device, Tensor, TensorData};
use regard_lens::Model;

fn report() -> Report {
    let mut report = Report::new("name", "a claim", true, 3);
    let mut table = Table::new("a table", &["what", "how much"]);
    table.rows.push(vec!["one".to_owned(), "1.5".to_owned()]);
    report.tables.push(table);
    let points = vec![[1.0, 10.0], [2.0, f64::NAN], [0.0, 3.0], [4.0, 1000.0]];
    report.charts.push(Chart {
        title: "a chart <&>".to_owned(),
        x: Axis::log("steps"),
        y: Axis::log("loss"),
        series: vec![Series { name: "curve <&>".to_owned(), points }],
    });
    report.find(false, "it does not hold".to_owned());
    report
}

#[test]
fn report__as_text_and_markdown__has_tables_and_findings() {
    let report = report();
    assert!(report.text().contains("  one   1.5\n") && report.text().contains("not    it does not hold"));
    assert!(report.markdown().contains("| one | 1.5 |\n") && report.markdown().contains("](name-1.svg)"));
}

#[test]
fn chart__points_that_cannot_be_drawn__are_left_out_and_text_is_escaped() {
    let svg = report().charts[0].svg().unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert!(!svg.contains("NaN") && svg.contains("a chart &lt;&amp;&gt;"), "{svg}");
}

#[test]
fn chart__curve_that_rises_at_the_right__has_its_names_at_the_left() {
    let mut chart = report().charts.remove(0);
    let place = |chart: &Chart| {
        let svg = chart.svg().unwrap();
        let text = svg.split("<text").find(|text| text.contains("other")).unwrap().to_owned();
        text.split_once("x=\"").unwrap().1.split_once('"').unwrap().0.parse::<f64>().unwrap()
    };
    let late = |at: f64| if at < 900.0 { 1.0 } else { 1.0 + (at - 900.0) * 10.0 };
    let points: Vec<[f64; 2]> =
        (1..=100).map(|at| [f64::from(at) * 10.0, late(f64::from(at) * 10.0)]).collect();
    (chart.x, chart.y) = (Axis::linear("steps"), Axis::linear("share"));
    chart.series = vec![Series { name: "other".to_owned(), points: points.clone() }; 2];
    let left = place(&chart);
    // Everything at the left and below: the names stay where they usually are.
    for series in &mut chart.series {
        series.points = points.iter().map(|&[x, _]| [1.0 + x / 1e3, 1.0 + x]).chain([[1e3, 1.0]]).collect();
    }
    assert!(left < 200.0 && place(&chart) > 500.0, "{left} {}", place(&chart));
}

#[test]
fn chart__nothing_to_draw__is_an_error() {
    let mut chart = report().charts.remove(0);
    chart.series.clear();
    assert!(chart.svg().unwrap_err().contains("nothing to draw"));
}

#[test]
fn experiment__unknown_name__names_those_that_there_are() {
    let error = Experiment::named("nothing").unwrap_err().to_string();
    assert!(error.contains("order") && error.contains("recall"), "{error}");
}

#[test]
fn rivals__fitted_to_attention__have_equal_parameters_within_five_percent() {
    let rivals = fitted(256, 64, 64).unwrap();
    let attention = rivals[0].parameters as f64;
    for rival in &rivals[1..] {
        let ratio = rival.parameters as f64 / attention;
        assert!((0.95..=1.05).contains(&ratio), "{}: {ratio}", rival.rival.name);
    }
}

#[test]
fn recall__every_question__asks_for_the_value_that_stands_after_its_key() {
    let batch = Recall { pairs: &[1, 16], seed: 1 }.batch(0, 8);
    assert_eq!((batch.lens.len(), batch.seq_len), (8, 64));
    assert!(batch.labels.len() >= 8 * 32);
    for &(at, value) in &batch.labels {
        let (text, place) = (&batch.tokens[at / 64 * 64..][..64], at % 64);
        let key = text.iter().position(|&token| token == text[place]).unwrap();
        assert!(key < place && key.is_multiple_of(2) && text[key + 1] == value, "{text:?} {place}");
    }
}

#[test]
fn rivals__compared_twice__are_trained_once_and_the_best_rate_has_every_seed() {
    let folder = folder("rivals");
    let rivals = fitted(256, 4, 64).unwrap();
    let (task, plan) = (Recall { pairs: &[1, 2], seed: 1 }, Plan { steps: 2, seeds: 2, seed: 1 });
    let run = || {
        let mut runs = Runs::open(folder.join("runs.jsonl")).unwrap();
        let trained = compare(&rivals, &mut runs, &task, &[&task], plan, &mut |_| ()).unwrap();
        assert!(steps_in_equal_time(&trained, 2).contains(&2), "the quickest makes all");
        trained.iter().map(|trained| (trained.rate, trained.right_after(2, 0))).collect::<Vec<_>>()
    };
    let first = run();
    let lines = || fs::read_to_string(folder.join("runs.jsonl")).unwrap().lines().count();
    assert_eq!(lines(), 3 * (4 + 1));
    assert!(first.iter().all(|(_, right)| right.len() == 2 && right.iter().all(|right| right.is_finite())));
    assert_eq!((run(), lines()), (first, 15));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn network__same_seed__has_the_same_parameters_and_lstm_forgets_little_at_first() {
    let sizes = Sizes {
        vocabulary: 9,
        classes: 9,
        dim: 8,
        state: 5,
        layers: 1,
        max_len: 4,
        feed_forward: false,
        mixer: Mixer::Lstm,
        positions: Positions::None,
        softmax_scale: None,
    };
    let device = Device::flex();
    let outputs = |seed| {
        let network = Network::new(&sizes, seed, &device).unwrap();
        let batch = crate::objective::Batch::new(
            &[crate::objective::Example { tokens: vec![1, 2, 3, 4], labels: vec![(3, 0)] }],
            0,
        );
        network.scores(&sizes, &batch, &device).unwrap().into_data().try_into_vec::<f32>().unwrap()
    };
    assert_eq!(outputs(1), outputs(1));
    assert_ne!(outputs(1), outputs(2));
    assert_eq!(Network::new(&sizes, 1, &device).unwrap().forget_biases(), vec![1.0; 5]);
}

#[test]
fn recurrence__gates_side_by_side__give_what_burns_cells_give() {
    let device = Device::flex();
    let numbers: Vec<f32> = (0..2 * 7 * 5).map(|at| (at as f32 * 0.7).sin()).collect();
    let input = Tensor::<3>::from_data(TensorData::new(numbers, [2, 7, 5]), &device);
    let lstm = LstmConfig::new(5, 6, true).init(&device);
    let gru = GruConfig::new(5, 6, true).init(&device);
    for (found, wanted) in [
        (recurrence::lstm(&lstm, input.clone()), lstm.forward(input.clone(), None).0),
        (recurrence::gru(&gru, input.clone()), gru.forward(input.clone(), None)),
    ] {
        assert_eq!(found.dims(), [2, 7, 6]);
        let farthest = (found - wanted).abs().max().into_scalar::<f32>();
        assert!(farthest < 1e-6, "{farthest}");
    }
}

/// A folder with nothing in it.
fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("regard-experiments-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn settings(folder: &Path) -> Settings {
    Settings {
        quick: true,
        seed: 1,
        keep: folder.to_owned(),
        data: vec![folder.join("nowhere"), folder.to_owned()],
        models: folder.join("models"),
    }
}

/// Sentences of four words, an article, a noun, a verb and an object, and a long one in the last place.
fn write_treebank(folder: &Path) {
    let dir = folder.join("ud-english-ewt");
    fs::create_dir_all(&dir).unwrap();
    let word = |id: usize, form: &str, tag: &str, head: usize, relation: &str| {
        format!("{id}\t{form}\t_\t{tag}\t_\t_\t{head}\t{relation}\t_\t_\n")
    };
    let short = [
        word(1, "the", "DET", 2, "det"),
        word(2, "cat", "NOUN", 3, "nsubj"),
        word(3, "saw", "VERB", 0, "root"),
        word(4, "him", "PRON", 3, "obj"),
    ];
    let long: String = (1..=200).map(|id| word(id, "cat", "NOUN", id - 1, "dep")).collect();
    let text = (short.concat() + "\n").repeat(5) + &long + "\n";
    for part in ["dev", "test"] {
        fs::write(dir.join(format!("en_ewt-ud-{part}.conllu")), &text).unwrap();
    }
}

fn write_novel(folder: &Path, name: &str) {
    use crate::random::{Purpose, rng};
    let dir = folder.join("litbank-train");
    fs::create_dir_all(&dir).unwrap();
    let line = |index| crate::sentences::training_text(&mut rng(1, Purpose::Examples, 0, index)).line();
    let text: Vec<String> = (0..300).map(line).collect();
    fs::write(dir.join(format!("{name}.txt")), text.join("\n\n")).unwrap();
}

#[test]
fn data__folder_that_is_nowhere__is_an_error_that_says_where_and_how() {
    let folder = folder("nothing");
    let error = data::treebank(&settings(&folder)).unwrap_err();
    assert!(matches!(error, TrainError::Option { name: "--data", .. }), "{error}");
    let error = data::books(&settings(&folder)).unwrap_err().to_string();
    assert!(error.contains("litbank-coref") && error.contains("scripts/prepare-litbank"), "{error}");
    assert!(error.contains("nowhere") && error.contains(&folder.display().to_string()), "{error}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn data__novel_that_heads_are_chosen_or_reported_on__is_not_trained_on() {
    let folder = folder("novels");
    write_novel(&folder, "1023_bleak_house");
    let part = crate::split::books().find(|book| book.name == "1023_bleak_house").unwrap().part;
    let other = crate::split::books().find(|book| book.part != part).unwrap();
    assert_eq!(data::novels(&settings(&folder)).is_ok(), part == Part::Train);
    write_novel(&folder, other.name);
    let error = data::novels(&settings(&folder)).unwrap_err().to_string();
    assert!(error.contains("training part"), "{error}");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn treebank__neighbours__are_found_by_the_fixed_offset_always_and_long_sentences_are_left_out() {
    let folder = folder("treebank");
    write_treebank(&folder);
    let settings = settings(&folder);
    let model = Model::untrained_builtin(1).unwrap();
    let treebank = Treebank::for_models(&settings, &[&model]).unwrap();
    assert!(
        treebank.sizes().contains("5 sentences choose, 5 report, 2 are too long"),
        "{}",
        treebank.sizes()
    );
    let picks = treebank.picks(&model, "it", &mut |_| ()).unwrap();
    let rows = treebank.rows(&picks, &[NEIGHBOURS, "obj"]);
    let found: Vec<_> = rows.iter().map(|row| (looks(row), row.test_pairs, row.offset.offset)).collect();
    assert_eq!(
        found,
        [
            ("previous word".to_owned(), 15, -1),
            ("next word".to_owned(), 15, 1),
            ("obj, dependent to head".to_owned(), 5, -1),
            ("obj, head to dependent".to_owned(), 5, 1)
        ]
    );
    assert!(rows.iter().all(|row| row.offset.test == 1.0 && row.rule.test == 1.0));
    // Whatever a head picks, it picks the same in equal sentences: it cannot be right by half.
    assert!(rows[2..].iter().all(|row| [0.0, 1.0].contains(&row.head.test)));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn emergence__made_up_novel__is_trained_once_and_looked_at_by_step() {
    let folder = folder("emergence");
    write_treebank(&folder);
    let book = crate::split::books().find(|book| book.part == Part::Train).unwrap();
    write_novel(&folder, book.name);
    let settings = settings(&folder);
    let run = || {
        let mut notes = Vec::new();
        let report =
            Experiment::named("emergence").unwrap().run(&settings, &mut |note| notes.push(note.to_owned()));
        (report.unwrap(), notes)
    };
    let (report, notes) = run();
    let steps: Vec<&str> = report.tables[0].rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(steps, ["untrained, 1 seed(s)", "8", "16", "32", "64"]);
    assert!(report.tables[0].rows[1..].iter().all(|row| row[1].parse::<f64>().is_ok()), "losses");
    assert!(report.tables.iter().all(|table| table.rows.iter().all(|row| row.len() == table.columns.len())));
    assert_eq!((report.tables[1].rows.len(), report.charts.len()), (6, 2));
    assert!(notes.iter().any(|note| note.starts_with("step 64, loss")));
    let (again, notes) = run();
    assert!(!notes.iter().any(|note| note.starts_with("step")), "it is not trained twice");
    assert_eq!((again.tables, again.findings), (report.tables, report.findings));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn pruning__built_in_model__ends_with_no_head_and_restores_little_then() {
    let folder = folder("pruning");
    let mut report = report();
    report.tables.clear();
    pruning::run(&settings(&folder), &mut report, &mut |_| ()).unwrap();
    let [one, all] = &report.tables[..] else { panic!("two tables") };
    assert_eq!((one.rows.len(), all.rows.len()), (12, 13));
    let restored = |row: usize| all.rows[row][3].parse::<f64>().unwrap();
    assert!(restored(0) > 70.0 && restored(12) < 30.0, "{all:?}");
    let mut gone: Vec<&str> = all.rows[1..].iter().map(|row| row[1].as_str()).collect();
    gone.sort_unstable();
    gone.dedup();
    assert_eq!(gone.len(), 12, "each head goes once");
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn agreement__models_that_are_not_here__are_named_with_what_fetches_them() {
    let folder = folder("agreement");
    let book = crate::split::books().find(|book| book.part == Part::Train).unwrap();
    write_novel(&folder, book.name);
    let report = Experiment::named("agreement").unwrap().run(&settings(&folder), &mut |_| ()).unwrap();
    assert_eq!(report.tables.len(), 4);
    for table in &report.tables {
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{table:?}");
        let names: Vec<&str> = table.rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(names, ["built-in", "plain", "all-MiniLM-L6-v2", "SmolLM2-135M-Instruct"]);
        assert!(table.rows[2][1].contains("scripts/fetch-minilm") && table.rows[3][1].contains("not here"));
    }
    let heads = &report.tables[1];
    let column = |name: &str| heads.columns.iter().position(|column| column == name).unwrap();
    for row in &heads.rows[..2] {
        // The subject is the first noun by construction, and never the nearest to the verb.
        assert_eq!(
            (row[column("first noun")].as_str(), row[column("nearest noun")].as_str()),
            ("100.0", "0.0")
        );
        assert!(row[column("untrained")].parse::<f64>().is_ok());
    }
    fs::remove_dir_all(folder).unwrap();
}
