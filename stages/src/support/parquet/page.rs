//! A column of a row group, encoded and maybe compressed.

use std::cell::RefCell;

use polars_parquet::parquet::CowBuffer;
use polars_parquet::parquet::compression::Compression;
use polars_parquet::parquet::encoding::Encoding;
use polars_parquet::parquet::metadata::Descriptor;
use polars_parquet::parquet::page::{
    CompressedDataPage, CompressedDictPage, CompressedPage, DataPageHeader, DataPageHeaderV1,
};
use polars_parquet::parquet::statistics::{PrimitiveStatistics, Statistics};

use super::encoding::{Bits, delta_start, deltas, numbers};

/// A column of a row group, encoded.
#[derive(Clone, Debug)]
pub struct Page {
    encoding: Encoding,
    codec: Compression,
    /// Values, and one for each empty list or null.
    count: usize,
    nulls: usize,
    /// Length before compression.
    length: usize,
    bytes: Vec<u8>,
    dictionary: Option<Dictionary>,
    span: Option<(i64, i64)>,
}

/// Which rows the values of a list column belong to: whether a value goes on with the row before, and whether there is one.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    again: Bits,
    /// Nothing as long as there is no empty list.
    there: Bits,
}

impl Lists {
    /// Adds a row with `count` values.
    #[inline]
    pub fn push(&mut self, count: usize) {
        if count == 0 {
            self.there.push_all(true, self.again.count() - self.there.count());
            self.there.push(false);
            self.again.push(false);
        } else if count < 32 {
            self.again.push_counted(((1u64 << count) - 1) & !1, count as u32, count as u32 - 1);
        } else {
            self.push(31);
            self.again.push_all(true, count - 31);
        }
    }

    /// Makes them of the ends of rows in the values.
    pub fn of_ends(ends: &[u32]) -> Self {
        let mut lists = Self::default();
        let mut before = 0;
        let mut rows = ends.iter();
        while let Some(&end) = rows.next() {
            let count = end - before;
            before = end;
            if count == 1 {
                // Most lines name one session: rows of one value are counted, then added at once.
                let alike =
                    rows.as_slice().iter().zip(end + 1..).take_while(|&(&end, one_more)| end == one_more).count();
                rows = rows.as_slice()[alike..].iter();
                before += alike as u32;
                lists.again.push_all(false, alike + 1);
            } else {
                lists.push(count as usize);
            }
        }
        lists
    }

    fn begin(&self, page: &mut Page) {
        page.count = self.again.count();
        page.nulls = self.there.count() - self.there.ones();
        self.again.write(&mut page.bytes);
        let mut there = self.there.clone();
        there.push_all(true, page.count - there.count());
        there.write(&mut page.bytes);
    }
}

impl Page {
    fn of(encoding: Encoding, lists: Option<&Lists>, count: usize) -> Self {
        let codec = Compression::Uncompressed;
        let (bytes, dictionary, span) = (Vec::new(), None, None);
        let mut page = Self { encoding, codec, count, nulls: 0, length: 0, bytes, dictionary, span };
        if let Some(lists) = lists {
            lists.begin(&mut page);
        }
        page
    }

    fn done(mut self) -> Self {
        self.length = self.bytes.len();
        self
    }

    /// Encodes numbers as deltas.
    pub fn of_numbers(lists: Option<&Lists>, values: impl ExactSizeIterator<Item = i64> + Clone) -> Self {
        let mut page = Self::of(Encoding::DeltaBinaryPacked, lists, values.len());
        delta_start(values.len(), values.clone().next().unwrap_or(0), &mut page.bytes);
        deltas(values.clone(), &mut page.bytes);
        if lists.is_none() {
            page.span = values.fold(None, |span, v| {
                let (least, most) = span.unwrap_or((v, v));
                Some((v.min(least), v.max(most)))
            });
        }
        page.done()
    }

    /// Encodes numbers whose deltas are encoded already; the first and the last one are the extremes.
    pub fn of_deltas(count: usize, first: i64, last: i64, deltas: &[u8]) -> Self {
        let mut page = Self::of(Encoding::DeltaBinaryPacked, None, count);
        delta_start(count, first, &mut page.bytes);
        page.bytes.extend_from_slice(deltas);
        page.span = Some((first, last));
        page.done()
    }

    /// Encodes numbers of which some lack.
    pub fn of_optional(values: &[i64], none: i64) -> Self {
        let mut there = Bits::default();
        if values.contains(&none) {
            values.iter().for_each(|&v| there.push(v != none));
        } else {
            there.push_all(true, values.len());
        }
        let mut page = Self::of(Encoding::DeltaBinaryPacked, None, values.len());
        there.write(&mut page.bytes);
        page.nulls = values.len() - there.ones();
        let kept: Vec<i64>;
        let values = if page.nulls == 0 {
            values
        } else {
            kept = values.iter().copied().filter(|&v| v != none).collect();
            &kept
        };
        delta_start(values.len(), values.first().copied().unwrap_or(0), &mut page.bytes);
        deltas(values.iter().copied(), &mut page.bytes);
        page.span = values.iter().min().copied().zip(values.iter().max().copied());
        page.done()
    }

    /// Encodes numbers of a dictionary of `size` entries, which [`Page::with_texts`] or [`Page::with_numbers`] gives.
    pub fn of_dictionary(lists: Option<&Lists>, values: &[u32], size: usize) -> Self {
        let mut page = Self::of(Encoding::RleDictionary, lists, values.len());
        numbers(values, size, &mut page.bytes);
        page.done()
    }

    /// Gives the dictionary: strings.
    pub fn with_texts<'a>(mut self, texts: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut count, mut bytes) = (0, Vec::new());
        for text in texts {
            count += 1;
            bytes.extend_from_slice(&(text.len() as u32).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        self.dictionary = Some(Dictionary { count, length: bytes.len(), bytes });
        self
    }

    /// Gives the dictionary: numbers.
    pub fn with_numbers(mut self, values: &[u32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.dictionary = Some(Dictionary { count: values.len(), length: bytes.len(), bytes });
        self
    }

    /// Encodes words of four bytes as they stand (numbers with a fraction by their bits) and compresses them: worth it where whole
    /// lists repeat.
    ///
    /// # Errors
    /// As [`Page::compressed`].
    pub fn of_plain(lists: Option<&Lists>, values: &[u32]) -> anyhow::Result<Self> {
        let mut page = Self::of(Encoding::Plain, lists, values.len());
        page.bytes.reserve(4 * values.len());
        values.iter().for_each(|value| page.bytes.extend_from_slice(&value.to_le_bytes()));
        page.done().compressed()
    }

    /// Encodes strings: where each ends in `bytes`, which is UTF-8.
    pub fn of_texts(lists: Option<&Lists>, ends: &[u32], bytes: &[u8]) -> Self {
        let mut page = Self::of(Encoding::DeltaLengthByteArray, lists, ends.len());
        let starts = std::iter::once(&0).chain(ends);
        let lengths: Vec<u32> = starts.zip(ends).map(|(start, end)| end - start).collect();
        delta_start(lengths.len(), lengths.first().copied().unwrap_or(0).into(), &mut page.bytes);
        deltas(lengths.iter().map(|&l| i64::from(l)), &mut page.bytes);
        page.bytes.extend_from_slice(bytes);
        page.done()
    }

    /// Encodes truths.
    pub fn of_flags(values: &[bool]) -> Self {
        let mut page = Self::of(Encoding::Plain, None, values.len());
        page.bytes = values.chunks(8).map(|b| b.iter().rev().fold(0, |all, &b| all << 1 | u8::from(b))).collect();
        page.done()
    }

    /// Gives the dictionary, strings, each with its length before it (four bytes, the lowest first), and compresses it
    /// and the page.
    ///
    /// # Errors
    /// As [`Page::compressed`].
    pub fn compressed_with(mut self, count: usize, texts: &[u8]) -> anyhow::Result<Self> {
        let dictionary = Dictionary { count, length: texts.len(), bytes: packed(texts)? };
        self = self.compressed()?;
        self.dictionary = Some(dictionary);
        Ok(self)
    }

    /// Returns its dictionary, if it has one, and itself, as pages of a column that is described thus.
    pub(super) fn described(self, column: &Descriptor, rows: usize) -> Vec<CompressedPage> {
        let codec = self.codec;
        let statistics = self.span.map(|(least, most)| {
            let of_column = PrimitiveStatistics {
                primitive_type: column.primitive_type.clone(),
                null_count: Some(self.nulls as i64),
                distinct_count: None,
                min_value: Some(least),
                max_value: Some(most),
            };
            Statistics::Int64(of_column).serialize()
        });
        let header = DataPageHeaderV1 {
            num_values: self.count as i32,
            encoding: self.encoding.into(),
            definition_level_encoding: Encoding::Rle.into(),
            repetition_level_encoding: Encoding::Rle.into(),
            statistics,
        };
        let dictionary = self.dictionary.map(|Dictionary { count, length, bytes }| {
            CompressedPage::Dict(CompressedDictPage::new(CowBuffer::Owned(bytes), codec, length, count, false))
        });
        let (header, bytes) = (DataPageHeader::V1(header), CowBuffer::Owned(self.bytes));
        let data = CompressedDataPage::new(header, bytes, codec, self.length, column.clone(), rows);
        dictionary.into_iter().chain([CompressedPage::Data(data)]).collect()
    }

    /// Compresses the page and its dictionary by LZ4, quickly.
    ///
    /// # Errors
    /// It is too large (2 GB).
    pub fn compressed(mut self) -> anyhow::Result<Self> {
        self.bytes = packed(&self.bytes)?;
        if let Some(dictionary) = &mut self.dictionary {
            dictionary.bytes = packed(&dictionary.bytes)?;
        }
        self.codec = Compression::Lz4Raw;
        Ok(self)
    }
}

fn packed(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    use lz4::block::{CompressionMode, compress_bound, compress_to_buffer};
    thread_local!(static PACKED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    PACKED.with_borrow_mut(|packed| {
        let most = compress_bound(bytes.len())?;
        packed.resize(most.max(packed.len()), 0);
        let length = compress_to_buffer(bytes, Some(CompressionMode::FAST(ACCELERATION)), false, packed)?;
        Ok(packed[..length].to_vec())
    })
}

/// The dictionary of a page.
#[derive(Clone, Debug, Default)]
struct Dictionary {
    count: usize,
    /// Length before compression.
    length: usize,
    bytes: Vec<u8>,
}

/// How much LZ4 hurries.
const ACCELERATION: i32 = 8;
