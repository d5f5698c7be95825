use super::sys::{Booster, Dataset, Training};
use super::*;

/// 300 rows; column 0 decides but for every eleventh row, column 1 is noise.
fn toy() -> (Csr, Vec<f32>) {
    let mut rows = Csr::new(2);
    let mut labels = Vec::new();
    for i in 0..300u32 {
        let decisive = (i * 7919) % 100;
        rows.push([(0, decisive as f32), (1, ((i * 104_729) % 13) as f32)]);
        labels.push(f32::from(u8::from((decisive > 80) != (i % 11 == 0))));
    }
    (rows, labels)
}

const PARAMETERS: &str = "objective=binary metric=average_precision num_leaves=7 min_data_in_leaf=5 seed=1 \
                          deterministic=true force_row_wise=true num_threads=1 verbosity=-1";

fn trained(rounds: usize) -> String {
    let (rows, labels) = toy();
    let data = Dataset::new(&rows, &labels, &vec![1.0; labels.len()], PARAMETERS, None).unwrap();
    let mut training = Training::new(&data, Some(&data), PARAMETERS).unwrap();
    for _ in 0..rounds {
        assert!(training.update().unwrap());
    }
    assert!(training.evaluate().unwrap() > 0.5);
    training.text(rounds).unwrap()
}

#[test]
fn the_text_has_no_volatile_lines_and_predicts_the_same_when_reloaded() {
    let text = trained(20);
    assert_eq!(text, trained(20));
    assert!(!text.contains("parameters") && !text.contains("[data"), "{text}");
    let (rows, labels) = toy();
    let booster = Booster::from_text(&text).unwrap();
    let margins = booster.margins(&rows).unwrap();
    let one_by_one: Vec<f64> = (0..rows.len()).map(|i| booster.margins(&rows.select(&[i])).unwrap()[0]).collect();
    assert_eq!(margins, one_by_one);
    let labels: Vec<bool> = labels.iter().map(|&l| l > 0.5).collect();
    assert!(average_precision(&margins, &labels).unwrap() > 0.8);
    let gains = booster.gains(2).unwrap();
    assert!(gains[0] > gains[1]);
    let shap = booster.contributions(&rows).unwrap();
    for (i, margin) in margins.iter().enumerate() {
        assert!((shap[3 * i..3 * i + 3].iter().sum::<f64>() - margin).abs() < 1e-9);
    }
}

#[test]
fn contributions_add_up_to_the_margin_and_do_not_depend_on_other_rows() {
    let text = trained(40);
    let (rows, _) = toy();
    let margins = Booster::from_text(&text).unwrap().margins(&rows).unwrap();
    let all = Contributions::of(&text, &rows).unwrap();
    assert_eq!(all.rows.len(), rows.len());
    for (row, (added, margin)) in all.rows.iter().zip(&margins).enumerate() {
        let sum = all.expected + added.iter().map(|a| a.2).sum::<f64>();
        assert!((sum - margin).abs() <= 1e-9 * margin.abs().max(1.0), "row {row}: {sum} {margin}");
        for &(column, value, _) in added {
            let found = rows.pairs(row).find(|p| p.0 == column).map_or(0.0, |p| p.1);
            assert_eq!(value, found, "row {row}");
        }
        let alone = Contributions::of(&text, &rows.select(&[row])).unwrap();
        assert_eq!((alone.expected, &alone.rows[0]), (all.expected, added));
    }
    let total = |column: u32| all.rows.iter().flatten().filter(|a| a.0 == column).map(|a| a.2.abs()).sum::<f64>();
    assert!(total(0) > total(1), "column 0 decides");
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| Contributions::of(&text, &rows)).unwrap(), all);
    assert_eq!(Contributions::of(&text, &Csr::new(2)).unwrap(), Contributions::default());
}

#[test]
fn a_broken_model_is_an_error_and_no_crash() {
    assert!(Booster::from_text("").is_err());
    assert!(Booster::from_text("tree\nversion=v4\n").is_err());
    let (rows, labels) = toy();
    assert!(Dataset::new(&rows, &labels[1..], &vec![1.0; 300], PARAMETERS, None).is_err());
    assert!(Dataset::new(&Csr::new(2), &[], &[], PARAMETERS, None).is_err());
}
