"""Writes the small valid files that the fuzz target begins with, into the folder given."""
import datetime, decimal, os, sys
import pyarrow as pa
import pyarrow.parquet as pq
import duckdb

out = sys.argv[1]
n = 24
D = decimal.Decimal
t = pa.table(dict(
    i=pa.array([None if i % 5 == 0 else i * 1000003 for i in range(n)], pa.int64()),
    j=pa.array([i % 3 for i in range(n)], pa.int32()),
    s=pa.array([None if i % 7 == 0 else ["uno", "dos", "tres ñ"][i % 3] for i in range(n)]),
    f=pa.array([i / 7 for i in range(n)]),
    b=pa.array([i % 4 == 0 for i in range(n)]),
    t=pa.array([datetime.datetime(2025, 1, 1 + i) for i in range(n)], pa.timestamp("us", "UTC")),
    d=pa.array([D(i).scaleb(-2) for i in range(n)], pa.decimal128(20, 2)),
    l=pa.array([None if i % 6 == 0 else [k if k % 2 else None for k in range(i % 4)] for i in range(n)], pa.list_(pa.int64())),
))
for codec in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]:
    v = "2.0" if codec in ("snappy", "zstd") else "1.0"
    pq.write_table(t, os.path.join(out, codec + ".parquet"), compression=codec, data_page_version=v, data_page_size=64, row_group_size=15, store_schema=False)
enc = dict(i="DELTA_BINARY_PACKED", j="BYTE_STREAM_SPLIT", s="DELTA_BYTE_ARRAY", f="BYTE_STREAM_SPLIT", b="RLE", t="DELTA_BINARY_PACKED", d="BYTE_STREAM_SPLIT")
pq.write_table(t, os.path.join(out, "delta.parquet"), compression="none", use_dictionary=False, column_encoding=enc, data_page_version="2.0", store_schema=False)
enc["s"] = "DELTA_LENGTH_BYTE_ARRAY"
pq.write_table(t, os.path.join(out, "length.parquet"), compression="none", use_dictionary=False, column_encoding=enc, store_schema=False, write_page_checksum=True, write_statistics=False)
pq.write_table(t, os.path.join(out, "int96.parquet"), compression="none", use_deprecated_int96_timestamps=True, store_schema=False, write_statistics=False)
con = duckdb.connect()
con.execute("set enable_progress_bar=false")
con.execute(f"copy (from t) to '{out}/duckdb.parquet' (format parquet)")
