"""Writes the same rows as Parquet files with pyarrow, DuckDB and polars, in many
ways, into the folder given; prints {"rows": [[text or null or list]], "files": [names]}."""
import datetime, decimal, json, os, random, struct, sys, uuid
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import duckdb

out = sys.argv[1]
r = random.Random(7)
N = 3000
UTC = datetime.timezone.utc
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=UTC)
decimal.getcontext().prec = 60


def stamp():  # microseconds
    return r.choice([0, -1, 1, r.randrange(-10**15, 4 * 10**15), r.randrange(10**15)])


def dec(p, s):
    return decimal.Decimal(r.randrange(-10**p + 1, 10**p)).scaleb(-s)


def text():
    return r.choice(["", "a", "ñandú", "日本語", "Montevideo", "largo " * r.randrange(20), str(r.randrange(10**6))])


def maybe(v):
    return None if r.random() < 0.3 else v


rows = []
for i in range(N):
    f16 = struct.unpack("<e", struct.pack("<e", r.choice([0.0, -1.5, 65504.0, 6e-8, r.uniform(-100, 100)])))[0]
    rows.append(dict(
        b=r.random() < 0.5, i8=r.randrange(-128, 128), i16=r.randrange(-2**15, 2**15), i32=r.randrange(-2**31, 2**31), i64=r.choice([i, r.randrange(-2**63, 2**63)]),
        u8=r.randrange(256), u16=r.randrange(2**16), u32=r.randrange(2**32), u64=r.randrange(2**64),
        f32=struct.unpack("<f", struct.pack("<f", r.uniform(-1e6, 1e6)))[0], f64=r.gauss(0, 1e9), f16=f16,
        s=text(), k=r.choice(["uno", "dos", "tres"]), by=r.randbytes(r.randrange(9)), fx=r.randbytes(5),
        d=r.randrange(-700000, 2900000), tms=stamp() // 1000 * 1000, tus=stamp(), tns=stamp(), tl=stamp(), t32=r.randrange(86400) * 1000, t64=r.randrange(86400 * 10**6),
        d9=dec(9, 2), d18=dec(18, 4), d38=dec(38, 10), u=uuid.UUID(int=r.getrandbits(128)),
        nb=maybe(True), ni=maybe(r.randrange(2**40)), nf=maybe(r.random()), ns=maybe(text()), nt=maybe(stamp()), nd=maybe(dec(20, 3)), n0=None,
        li=[r.randrange(10) for _ in range(r.randrange(5))], ls=[maybe(text()) for _ in range(r.randrange(4))], nl=maybe([r.random() for _ in range(r.randrange(3))]),
    ))

# Long runs, and a list that is longer than a page.
for i in range(500, 1500):
    rows[i].update(b=True, i64=7, k="uno", ns=None, li=[])
rows[2000]["li"] = list(range(5000))


def stamps(name, unit, tz):
    div = {"ms": 1000, "us": 1}.get(unit)
    vals = [None if x[name] is None else (x[name] * 1000 if unit == "ns" else x[name] // div) for x in rows]
    return pa.array(vals, pa.int64()).cast(pa.timestamp(unit, tz))


def col(name, typ):
    return pa.array([x[name] for x in rows], typ)


columns = dict(
    b=col("b", pa.bool_()), i8=col("i8", pa.int8()), i16=col("i16", pa.int16()), i32=col("i32", pa.int32()), i64=col("i64", pa.int64()),
    u8=col("u8", pa.uint8()), u16=col("u16", pa.uint16()), u32=col("u32", pa.uint32()), u64=col("u64", pa.uint64()),
    f32=col("f32", pa.float32()), f64=col("f64", pa.float64()), f16=pa.array(np.array([x["f16"] for x in rows], np.float16)),
    s=col("s", pa.string()), k=col("k", pa.string()), by=col("by", pa.binary()), fx=col("fx", pa.binary(5)),
    d=pa.array([x["d"] for x in rows], pa.int32()).cast(pa.date32()),
    tms=stamps("tms", "ms", "UTC"), tus=stamps("tus", "us", "UTC"), tns=stamps("tns", "ns", "UTC"), tl=stamps("tl", "us", None),
    t32=pa.array([x["t32"] for x in rows], pa.int32()).cast(pa.time32("ms")), t64=pa.array([x["t64"] for x in rows], pa.int64()).cast(pa.time64("us")),
    d9=col("d9", pa.decimal128(9, 2)), d18=col("d18", pa.decimal128(18, 4)), d38=col("d38", pa.decimal128(38, 10)),
    u=pa.ExtensionArray.from_storage(pa.uuid(), pa.array([x["u"].bytes for x in rows], pa.binary(16))),
    nb=col("nb", pa.bool_()), ni=col("ni", pa.int64()), nf=col("nf", pa.float64()), ns=col("ns", pa.string()), nt=stamps("nt", "us", "UTC"), nd=col("nd", pa.decimal128(20, 3)), n0=col("n0", pa.null()),
    li=col("li", pa.list_(pa.int64())), ls=col("ls", pa.list_(pa.string())), nl=col("nl", pa.list_(pa.float64())),
)
table = pa.table(columns)
files = []


def path(name):
    files.append(name + ".parquet")
    return os.path.join(out, name + ".parquet")


def write(name, t=table, **kw):
    pq.write_table(t, path("pyarrow-" + name), **kw)


for codec in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]:
    for version in ["1.0", "2.0"]:
        write(f"{codec}-v{version[0]}", compression=codec, data_page_version=version, data_page_size=4000, row_group_size=1300)
write("plain", use_dictionary=False, data_page_size=3000)
write("checksums", write_page_checksum=True, data_page_size=5000)
write("int96", use_deprecated_int96_timestamps=True)
write("ints", store_decimal_as_integer=True)
write("old", version="1.0", compression="snappy")
write("oldlist", use_compliant_nested_type=False)
delta = {}
for f in table.schema:
    t = f.type
    if pa.types.is_list(t) or pa.types.is_null(t):
        continue
    if pa.types.is_boolean(t):
        delta[f.name] = "RLE"
    elif pa.types.is_integer(t) or pa.types.is_timestamp(t) or pa.types.is_date(t) or pa.types.is_time(t):
        delta[f.name] = "DELTA_BINARY_PACKED"
    elif pa.types.is_string(t):
        delta[f.name] = "DELTA_BYTE_ARRAY"
    elif pa.types.is_binary(t):
        delta[f.name] = "DELTA_LENGTH_BYTE_ARRAY"
    elif pa.types.is_floating(t) or pa.types.is_decimal(t) or pa.types.is_fixed_size_binary(t):
        delta[f.name] = "BYTE_STREAM_SPLIT"
for version in ["1.0", "2.0"]:
    write("delta-v" + version[0], use_dictionary=False, column_encoding=delta, data_page_version=version, data_page_size=6000)
split = {n: "BYTE_STREAM_SPLIT" for n in ["i32", "i64", "f32", "f64", "fx"]}
split["s"] = "DELTA_LENGTH_BYTE_ARRAY"
write("split", use_dictionary=False, column_encoding=split)
required = pa.schema([pa.field(f.name, f.type, nullable=f.name[0] == "n") for f in table.schema])
write("required", table.cast(required), data_page_size=4000)
large = table.set_column(table.schema.get_field_index("s"), "s", columns["s"].cast(pa.large_string()))
write("large", large.set_column(large.schema.get_field_index("li"), "li", columns["li"].cast(pa.large_list(pa.int64()))))

con = duckdb.connect()
con.execute("set timezone='UTC'; set enable_progress_bar=false")
con.register("t", table.drop(["n0", "f16", "u"]))
duck = "select *, null::integer as n0, f32 as f16x from t"
for name, opt in {"snappy": "", "zstd": ", compression zstd", "v2": ", parquet_version v2", "groups": ", row_group_size 2048, compression gzip", "lz4": ", compression lz4_raw", "brotli": ", compression brotli"}.items():
    con.execute(f"copy (select * from t) to '{path('duckdb-' + name)}' (format parquet{opt})")

import polars as pl
frame = pl.from_arrow(table.drop(["n0", "f16", "u", "fx", "d38", "tms"]))
for codec in ["uncompressed", "snappy", "zstd", "lz4", "gzip", "brotli"]:
    frame.write_parquet(path("polars-" + codec), compression=codec, row_group_size=1100)

table.drop(["d38", "u", "f16", "d", "tms"]).to_pandas().to_parquet(path("pandas-default"))

def show(name, v):
    if v is None:
        return None
    if isinstance(v, list):
        return [show(name, x) for x in v]
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, float):
        return struct.pack(">d", v).hex()
    if isinstance(v, bytes):
        return v.hex()
    if isinstance(v, decimal.Decimal):
        return format(v, "f")
    return str(v)


json.dump({"rows": [{k: show(k, v) for k, v in x.items()} for x in rows], "files": files}, sys.stdout)
