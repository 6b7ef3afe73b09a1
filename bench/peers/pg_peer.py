"""usage: pg_peer.py MODE N [uniq|nouniq] [NDJSON file, for copy]. Kafka consumer -> Postgres. modes: one (INSERT + commit per row), one_batchcommit (INSERT per row, commit per 1000),
execvalues (psycopg2 execute_values 1000), copy (COPY 5000 rows/txn, no Kafka: physical limit of one connection), copy_k (Kafka->COPY)"""
import io
import json
import os
import sys
import time
from os import urandom as U
from pathlib import Path

import psycopg2
from confluent_kafka import Consumer, TopicPartition
from psycopg2.extras import execute_values

mode=sys.argv[1]; N=int(sys.argv[2]); uniq=len(sys.argv)<4 or sys.argv[3]!="nouniq"
cn=psycopg2.connect(os.environ.get("POSTGRES","host=127.0.0.1 port=15433 user=postgres dbname=postgres")); cu=cn.cursor()
cu.execute("drop table if exists ev"); cu.execute("create table ev(event_id uuid %s, user_id text, event_type text, product_id text, ts timestamptz, session_id text)"%("primary key" if uniq else "")); cn.commit()
def source():
    if mode=="copy":
        ls=[json.loads(l) for l in Path(sys.argv[4]).read_text().splitlines()]
        i=0
        while True:
            e=ls[i%len(ls)]; i+=1
            yield e
    c=Consumer({"bootstrap.servers":os.environ.get("BROKER","127.0.0.1:19092"),"group.id":"pg","enable.auto.commit":False,"auto.offset.reset":"earliest"})
    c.assign([TopicPartition("pgsrc",i,0) for i in range(6)])
    while True:
        for m in c.consume(1000,1.0):
            if not m.error(): yield json.loads(m.value())
row=lambda e:(e["event_id"],e["user_id"],e["event_type"],e["product_id"],e["timestamp"],e.get("session_id"))
Q="insert into ev values(%s,%s,%s,%s,%s,%s) on conflict do nothing" if uniq else "insert into ev values(%s,%s,%s,%s,%s,%s)"
g=source(); rows=[]; first=next(g); t=time.time(); n=0; LIM=25
if mode in("one","one_batchcommit"):
    for e in g:
        cu.execute(Q,row(e)); n+=1
        if mode=="one" or n%1000==0: cn.commit()
        if n>=N or time.time()-t>LIM: break
    cn.commit()
elif mode=="execvalues":
    for e in g:
        rows.append(row(e)); n+=1
        if len(rows)==1000: execute_values(cu,"insert into ev values %s"+(" on conflict do nothing" if uniq else ""),rows,page_size=1000); cn.commit(); rows=[]
        if n>=N or time.time()-t>LIM: break
    cn.commit()
elif mode=="copy":
    # prebuilt text so that only COPY is timed; unique ids
    import uuid
    B=20000; bufs=[]
    for b in range(N//B):
        s=io.StringIO()
        for i in range(B):
            e=next(g); s.write(f"{uuid.UUID(bytes=U(16),version=4)}\t{e['user_id']}\t{e['event_type']}\t{e['product_id']}\t{e['timestamp']}\t{e['session_id']}\n")
        bufs.append(s.getvalue())
    t=time.time()
    for x in bufs:
        cu.copy_from(io.StringIO(x),"ev"); cn.commit(); n+=B
dt=time.time()-t
cu.execute("select count(*) from ev"); print(f"{mode} uniq={uniq}: {n} rows in {dt:.2f}s = {n/dt:,.0f} rows/s  (table {cu.fetchone()[0]})")
