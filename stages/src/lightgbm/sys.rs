//! LightGBM through its C interface: sparse datasets, boosting round by round, model text, prediction.
//!
//! The only module with `unsafe`: every call hands the library pointers into slices that live across the call, and each
//! handle is freed by the type that owns it. LightGBM is built without OpenMP, so a booster uses one thread and
//! boosters on different threads share nothing but the log callback, which is registered per thread and silent.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use anyhow::{Context as _, bail, ensure};
use lightgbm3_sys as c;

use crate::support::sparse::Csr;

/// Drops LightGBM's log lines: errors come back as results, and a library prints nothing.
unsafe extern "C" fn silent(_: *const c_char) {}

fn check(code: c_int) -> anyhow::Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the library returns a pointer to a null-terminated buffer of this thread, valid until its next error.
    let text = unsafe { CStr::from_ptr(c::LGBM_GetLastError()) }.to_string_lossy().into_owned();
    bail!("LightGBM: {text}")
}

fn hush() -> anyhow::Result<()> {
    // SAFETY: `silent` is a plain function that touches nothing.
    check(unsafe { c::LGBM_RegisterLogCallback(Some(silent)) })
}

/// A CSR matrix in the types the library takes.
struct Borrowed {
    offsets: Vec<i64>,
    indices: Vec<i32>,
}

impl Borrowed {
    fn of(rows: &Csr) -> Self {
        Self {
            offsets: rows.offsets.iter().map(|&o| o as i64).collect(),
            indices: rows.indices.iter().map(|&i| i as i32).collect(),
        }
    }
}

/// Rows with labels and weights, binned for training.
pub struct Dataset {
    handle: c::DatasetHandle,
}

impl Dataset {
    /// Bins rows; a validation set takes the bins of its `reference`.
    ///
    /// # Errors
    /// There are no rows, labels or weights do not fit, or the library refuses.
    pub fn new(
        rows: &Csr,
        labels: &[f32],
        weights: &[f32],
        parameters: &str,
        reference: Option<&Self>,
    ) -> anyhow::Result<Self> {
        hush()?;
        ensure!(!rows.is_empty() && rows.columns > 0, "no rows or no columns to learn from");
        ensure!(labels.len() == rows.len() && weights.len() == rows.len(), "one label and weight for each row");
        let borrowed = Borrowed::of(rows);
        let parameters = CString::new(parameters)?;
        let mut handle = ptr::null_mut();
        // SAFETY: all pointers are to slices that outlive the call, with the lengths given; the library copies them.
        check(unsafe {
            c::LGBM_DatasetCreateFromCSR(
                borrowed.offsets.as_ptr().cast::<c_void>(),
                c::C_API_DTYPE_INT64 as c_int,
                borrowed.indices.as_ptr(),
                rows.values.as_ptr().cast::<c_void>(),
                c::C_API_DTYPE_FLOAT32 as c_int,
                borrowed.offsets.len() as i64,
                rows.values.len() as i64,
                rows.columns as i64,
                parameters.as_ptr(),
                reference.map_or(ptr::null_mut(), |r| r.handle),
                &raw mut handle,
            )
        })?;
        let dataset = Self { handle };
        dataset.set(c"label", labels)?;
        dataset.set(c"weight", weights)?;
        Ok(dataset)
    }

    fn set(&self, field: &CStr, values: &[f32]) -> anyhow::Result<()> {
        // SAFETY: the slice outlives the call and the library copies it.
        check(unsafe {
            c::LGBM_DatasetSetField(
                self.handle,
                field.as_ptr(),
                values.as_ptr().cast::<c_void>(),
                values.len() as c_int,
                c::C_API_DTYPE_FLOAT32 as c_int,
            )
        })
    }
}

impl Drop for Dataset {
    fn drop(&mut self) {
        // SAFETY: the handle came from the library and is freed once. Its code cannot matter any more.
        let _ = unsafe { c::LGBM_DatasetFree(self.handle) };
    }
}

/// A booster in training; it borrows its datasets, to which the library keeps pointers.
pub struct Training<'a> {
    booster: Booster,
    datasets: std::marker::PhantomData<&'a Dataset>,
}

impl<'a> Training<'a> {
    /// Begins training; `validation` is what [`Training::evaluate`] reports on.
    ///
    /// # Errors
    /// The library refuses the parameters.
    pub fn new(train: &'a Dataset, validation: Option<&'a Dataset>, parameters: &str) -> anyhow::Result<Self> {
        hush()?;
        let parameters = CString::new(parameters)?;
        let mut handle = ptr::null_mut();
        // SAFETY: the dataset handle is alive, the string null-terminated.
        check(unsafe { c::LGBM_BoosterCreate(train.handle, parameters.as_ptr(), &raw mut handle) })?;
        let training = Self { booster: Booster { handle }, datasets: std::marker::PhantomData };
        if let Some(validation) = validation {
            // SAFETY: both handles are alive, and the lifetime keeps the dataset so.
            check(unsafe { c::LGBM_BoosterAddValidData(training.booster.handle, validation.handle) })?;
        }
        Ok(training)
    }

    /// Adds a tree; false if no split was left.
    ///
    /// # Errors
    /// The library fails.
    pub fn update(&mut self) -> anyhow::Result<bool> {
        hush()?;
        let mut finished = 0;
        // SAFETY: the handle is alive, the out pointer valid.
        check(unsafe { c::LGBM_BoosterUpdateOneIter(self.booster.handle, &raw mut finished) })?;
        Ok(finished == 0)
    }

    /// Returns the one metric of the parameters on the validation set.
    ///
    /// # Errors
    /// There is no validation set, or the parameters name not exactly one metric.
    pub fn evaluate(&self) -> anyhow::Result<f64> {
        let (mut count, mut values) = (0, [f64::NAN; 8]);
        // SAFETY: the buffer has room for more metrics than the parameters name.
        check(unsafe { c::LGBM_BoosterGetEval(self.booster.handle, 1, &raw mut count, values.as_mut_ptr()) })?;
        ensure!(count == 1, "LightGBM reports {count} metrics instead of one");
        Ok(values[0])
    }

    /// Returns the model text of the first `rounds` trees, without the block of parameters and what else depends on
    /// where and how it was trained.
    ///
    /// # Errors
    /// The library fails.
    pub fn text(&self, rounds: usize) -> anyhow::Result<String> {
        let rounds = c_int::try_from(rounds)?;
        let mut buffer = vec![0u8; 1 << 20];
        loop {
            let mut length = 0;
            // SAFETY: the buffer has the length given.
            check(unsafe {
                c::LGBM_BoosterSaveModelToString(
                    self.booster.handle,
                    0,
                    rounds,
                    c::C_API_FEATURE_IMPORTANCE_GAIN as c_int,
                    buffer.len() as i64,
                    &raw mut length,
                    buffer.as_mut_ptr().cast::<c_char>(),
                )
            })?;
            let length = usize::try_from(length)?;
            if length <= buffer.len() {
                let text = CStr::from_bytes_until_nul(&buffer).context("LightGBM's model text has no end")?.to_str()?;
                let (trees, _) = text.split_once("\nparameters:").unwrap_or((text, ""));
                return Ok(format!("{}\n", trees.trim_end()));
            }
            buffer.resize(length, 0);
        }
    }
}

/// A trained model.
pub struct Booster {
    handle: c::BoosterHandle,
}

// SAFETY: a booster owns all it points to; prediction takes no state from other threads.
unsafe impl Send for Booster {}

impl Booster {
    /// Loads a model from its text.
    ///
    /// # Errors
    /// The text is no model.
    pub fn from_text(text: &str) -> anyhow::Result<Self> {
        hush()?;
        // The library crashes on some malformed texts instead of refusing them.
        ensure!(text.starts_with("tree\n") && text.contains("\nend of trees"), "no LightGBM model text");
        let text = CString::new(text)?;
        let (mut rounds, mut handle) = (0, ptr::null_mut());
        // SAFETY: the string is null-terminated, the out pointers valid.
        check(unsafe { c::LGBM_BoosterLoadModelFromString(text.as_ptr(), &raw mut rounds, &raw mut handle) })?;
        Ok(Self { handle })
    }

    /// Returns the raw margin (log-odds) of each row.
    ///
    /// # Errors
    /// The rows have other columns than the model.
    pub fn margins(&self, rows: &Csr) -> anyhow::Result<Vec<f64>> {
        self.predict(rows, c::C_API_PREDICT_RAW_SCORE, 1)
    }

    /// Returns the SHAP values of each row: one per column, then the expected margin; `columns + 1` a row.
    ///
    /// # Errors
    /// The rows have other columns than the model.
    pub fn contributions(&self, rows: &Csr) -> anyhow::Result<Vec<f64>> {
        self.predict(rows, c::C_API_PREDICT_CONTRIB, rows.columns + 1)
    }

    fn predict(&self, rows: &Csr, what: u32, width: usize) -> anyhow::Result<Vec<f64>> {
        hush()?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let borrowed = Borrowed::of(rows);
        let mut out = vec![0.0; rows.len() * width];
        let mut length = 0;
        // SAFETY: all pointers are to slices that outlive the call with the lengths given; `out` has the size that
        // this kind of prediction fills.
        check(unsafe {
            c::LGBM_BoosterPredictForCSR(
                self.handle,
                borrowed.offsets.as_ptr().cast::<c_void>(),
                c::C_API_DTYPE_INT64 as c_int,
                borrowed.indices.as_ptr(),
                rows.values.as_ptr().cast::<c_void>(),
                c::C_API_DTYPE_FLOAT32 as c_int,
                borrowed.offsets.len() as i64,
                rows.values.len() as i64,
                rows.columns as i64,
                what as c_int,
                0,
                -1,
                c"num_threads=1".as_ptr(),
                &raw mut length,
                out.as_mut_ptr(),
            )
        })?;
        ensure!(usize::try_from(length)? == out.len(), "LightGBM predicted {length} values instead of {}", out.len());
        Ok(out)
    }

    /// Returns the total gain of the splits on each of `columns` columns.
    ///
    /// # Errors
    /// The library fails.
    pub fn gains(&self, columns: usize) -> anyhow::Result<Vec<f64>> {
        let mut features = 0;
        // SAFETY: the out pointer is valid.
        check(unsafe { c::LGBM_BoosterGetNumFeature(self.handle, &raw mut features) })?;
        ensure!(usize::try_from(features)? == columns, "the model has {features} columns, not {columns}");
        let mut out = vec![0.0; columns];
        // SAFETY: the buffer has one value for each column of the model.
        check(unsafe {
            c::LGBM_BoosterFeatureImportance(
                self.handle,
                0,
                c::C_API_FEATURE_IMPORTANCE_GAIN as c_int,
                out.as_mut_ptr(),
            )
        })?;
        Ok(out)
    }
}

impl Drop for Booster {
    fn drop(&mut self) {
        // SAFETY: the handle came from the library and is freed once.
        let _ = unsafe { c::LGBM_BoosterFree(self.handle) };
    }
}
