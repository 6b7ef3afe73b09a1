# Faust agent: views per item in a 1 s tumbling window (event time), rolling z-score per item, alert -> topic. usage: N=... faust_peer.py worker -l warning
import collections
import math
import os
import time

import faust

N=int(os.environ.get("N","300000")); STORE=os.environ.get("STORE","memory://"); TABLE=os.environ.get("TABLE","1")=="1"
app=faust.App("fp-"+os.environ.get("RUN",str(int(time.time()))),broker="kafka://"+os.environ.get("BROKER","127.0.0.1:19092"),store=STORE,value_serializer="json",topic_partitions=6,web_enabled=False,consumer_auto_offset_reset="earliest",processing_guarantee="at_least_once",topic_disable_leader=True,stream_wait_empty=False,broker_commit_interval=1.0)
class Ev(faust.Record,serializer="json",validation=False):
    event_id:str; user_id:str; event_type:str; product_id:str; timestamp:str; session_id:str=None
src=app.topic("fsrc",value_type=Ev); alerts=app.topic("falerts",value_type=dict)
views=app.Table("views",default=int,partitions=6).tumbling(1.0,expires=60.0) if TABLE else None
hist=collections.defaultdict(lambda: collections.deque(maxlen=30)); last={}; cur=collections.Counter()
st={"n":0,"t0":None,"alerts":0}
@app.agent(src)
async def agent(stream):
    async for e in stream:
        if st["t0"] is None: st["t0"]=time.time(); st["c0"]=time.process_time()
        st["n"]+=1
        pid=e.product_id
        if TABLE:
            views[pid]+=1; c=views[pid].now()
        else:
            c=cur[pid]=cur[pid]+1
        w=int(time.time())
        if last.get(pid)!=w:
            h=hist[pid]
            if len(h)>=10:
                m=sum(h)/len(h); sd=math.sqrt(sum((x-m)**2 for x in h)/len(h)) or 1.0
                if (c-m)/sd>3: st["alerts"]+=1; await alerts.send(value={"product_id":pid,"z":(c-m)/sd})
            h.append(c); last[pid]=w
        if st["n"]==N:
            dt=time.time()-st["t0"]; os.write(2,f"\nFAUST table={TABLE} store={STORE} {N} in {dt:.1f}s = {N/dt:,.0f} ev/s cpu {time.process_time()-st['c0']:.1f}s alerts {st['alerts']}\n".encode()); os._exit(0)
if __name__=="__main__": app.main()
