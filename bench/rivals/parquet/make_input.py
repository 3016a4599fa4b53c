# in.csv out.parquet: the input of parquet-parquet, by pyarrow with its defaults (snappy, dictionaries, row groups of 1 M rows)
import sys
import pyarrow as pa, pyarrow.csv as csv, pyarrow.parquet as pq
types = {"venta_id": pa.int64(), "cliente_id": pa.int64(), "producto_id": pa.int64(), "cantidad": pa.int64(), "precio_unitario": pa.float64(),
         "total": pa.float64(), "fecha_venta": pa.timestamp("us"), "metodo_pago": pa.string(), "estado": pa.string()}
t = csv.read_csv(sys.argv[1], convert_options=csv.ConvertOptions(column_types=types, timestamp_parsers=["%Y-%m-%d %H:%M:%S"]))
pq.write_table(t, sys.argv[2])
