//! Parquet's column chunks that are compressed by Zstandard: their pages are read as they stand and decompressed here.
//!
//! The parquet crate only knows the C library for it. So it is told that such a chunk is not compressed, and what it reads
//! goes through ruzstd, a decoder in Rust, before it is taken apart.
use parquet::basic::Compression;
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::RowGroupReader;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::record::reader::RowIter;
use parquet::schema::types::Type;
use std::fs::File;
use std::io::Read;
use std::sync::Arc;

/// A row group of a file, in which chunks compressed by Zstandard can be read too.
pub struct Group<'a> {
    /// The crate's own reader of the group.
    pub inner: Box<dyn RowGroupReader + 'a>,
    /// The same file again.
    pub file: Arc<File>,
}

impl RowGroupReader for Group<'_> {
    fn metadata(&self) -> &RowGroupMetaData {
        self.inner.metadata()
    }
    fn num_columns(&self) -> usize {
        self.inner.num_columns()
    }
    fn get_column_page_reader(&self, i: usize) -> Result<Box<dyn PageReader>> {
        let chunk = self.metadata().column(i);
        if !matches!(chunk.compression(), Compression::ZSTD(_)) {
            return self.inner.get_column_page_reader(i);
        }
        let as_it_stands = chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        let rows = usize::try_from(self.metadata().num_rows())?;
        Ok(Box::new(ZstdPages(SerializedPageReader::new(self.file.clone(), &as_it_stands, rows, None)?)))
    }
    fn get_column_bloom_filter(&self, i: usize) -> Option<&Sbbf> {
        self.inner.get_column_bloom_filter(i)
    }
    fn get_row_iter(&self, projection: Option<Type>) -> Result<RowIter<'_>> {
        RowIter::from_row_group(projection, self)
    }
}

/// The pages of a chunk, decompressed one by one.
struct ZstdPages(SerializedPageReader<File>);

/// `packed` decompressed, behind its first `plain` bytes, which are not compressed.
fn unpacked(packed: &[u8], plain: usize) -> Result<Vec<u8>> {
    let failed = |detail: String| ParquetError::General(format!("a page compressed by Zstandard is broken: {detail}"));
    let (levels, values) = packed.split_at_checked(plain).ok_or_else(|| failed("it is cut off".into()))?;
    let mut all = levels.to_vec();
    if !values.is_empty() {
        let mut decoder = ruzstd::decoding::StreamingDecoder::new(values).map_err(|e| failed(e.to_string()))?;
        decoder.read_to_end(&mut all).map_err(|e| failed(e.to_string()))?;
    }
    Ok(all)
}

impl PageReader for ZstdPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(mut page) = self.0.get_next_page()? else { return Ok(None) };
        match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => *buf = unpacked(buf, 0)?.into(),
            Page::DataPageV2 { buf, is_compressed, def_levels_byte_len, rep_levels_byte_len, .. } => {
                if *is_compressed {
                    *buf = unpacked(buf, (*def_levels_byte_len + *rep_levels_byte_len) as usize)?.into();
                }
            }
        }
        Ok(Some(page))
    }
    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.0.peek_next_page()
    }
    fn skip_next_page(&mut self) -> Result<()> {
        self.0.skip_next_page()
    }
}

impl Iterator for ZstdPages {
    type Item = Result<Page>;
    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
