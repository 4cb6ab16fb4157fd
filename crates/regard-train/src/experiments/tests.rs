use super::network::{Mixer, Network, Positions, Sizes};
use super::report::{Report, Table};
use super::rivals::fitted;
use super::*;
use crate::chart::{Axis, Chart, Series};

use burn::tensor::Device;

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
