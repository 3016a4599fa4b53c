# in.{csv,jsonl,parquet} out.parquet: one file, whole, by pandas
import sys, glob; import pandas as pd
src,out=sys.argv[1:3]
COLS=["venta_id","cliente_id","producto_id","cantidad","precio_unitario","total","fecha_venta","metodo_pago","estado"]
one=glob.glob(src)[0]
df=pd.read_csv(one) if one.endswith(".csv") else pd.read_json(one,lines=True,convert_dates=False) if one.endswith(".jsonl") else pd.read_parquet(one)
miss=set(COLS)-set(df.columns)
if miss: raise SystemExit(miss)
for k in ("venta_id","cliente_id","producto_id","cantidad"): assert pd.api.types.is_integer_dtype(df[k]),k
for k in ("precio_unitario","total"): assert pd.api.types.is_float_dtype(df[k]),k
df=df[df["cantidad"]>0].copy()
if not one.endswith(".parquet"): df["fecha_venta"]=pd.to_datetime(df["fecha_venta"],format="%Y-%m-%d %H:%M:%S")
df["anio"]=df["fecha_venta"].dt.year; df["mes"]=df["fecha_venta"].dt.strftime("%Y-%m"); df["ticket_unitario"]=df["total"]/df["cantidad"]
df.to_parquet(out,compression="snappy",index=False)
