# PATH: what a Parquet file, or a folder of them, holds
import os, sys
import pyarrow.compute as pc, pyarrow.dataset as ds
p = sys.argv[1]
t = ds.dataset(p, format="parquet", partitioning="hive" if os.path.isdir(p) else None).to_table(
    columns=["total", "anio", "mes", "ticket_unitario", "cantidad", "fecha_venta"])
mes = t["mes"].cast("string")
print(f"rows={t.num_rows} total={pc.sum(t['total']).as_py():.0f} anio={pc.sum(t['anio']).as_py()} ticket={pc.sum(t['ticket_unitario']).as_py():.0f}"
      f" cantidad={pc.sum(t['cantidad']).as_py()} fecha={str(pc.min(t['fecha_venta']).as_py())[:19]}..{str(pc.max(t['fecha_venta']).as_py())[:19]} mes={pc.min(mes).as_py()}..{pc.max(mes).as_py()}")
